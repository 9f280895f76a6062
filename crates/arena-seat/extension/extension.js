// Opens the first exercise's file and the terminals that show the workshop's
// apps. Closing such a terminal does not stop the app: it belongs to the agent.
'use strict';

const path = require('path');
const vscode = require('vscode');

/** What the agent told us: `server=backend,postgres=postgres`. */
const terminals = (process.env.ARENA_TERMINALS || '')
  .split(',')
  .filter(Boolean)
  .map((pair) => pair.split('='));

function show(name, app, preserveFocus) {
  const open = vscode.window.terminals.find((terminal) => terminal.name === name);
  const terminal =
    open ||
    vscode.window.createTerminal({
      name,
      shellPath: process.env.ARENA_EXECUTABLE,
      shellArgs: ['serve', 'app-terminal', app],
      iconPath: new vscode.ThemeIcon('server-process'),
      // The agent keeps the output: a new one after a reload shows the same.
      isTransient: true,
    });
  terminal.show(preserveFocus);
}

async function openFirstFile() {
  const folder = vscode.workspace.workspaceFolders && vscode.workspace.workspaceFolders[0];
  const file = process.env.ARENA_FIRST_FILE;
  const busy = vscode.window.tabGroups.all.some((group) => group.tabs.length > 0);
  if (!folder || !file || busy) return;
  const uri = vscode.Uri.file(path.join(folder.uri.fsPath, file));
  try {
    await vscode.window.showTextDocument(uri, { preview: false });
  } catch {
    // The participant has moved or deleted it; nothing to open, then.
  }
}

exports.activate = async function activate(context) {
  const all = () => terminals.slice().reverse().forEach(([name, app]) => show(name, app, true));
  context.subscriptions.push(vscode.commands.registerCommand('arena.showServer', all));
  if (!vscode.workspace.workspaceFolders) return;
  await openFirstFile();
  all();
};

exports.deactivate = function deactivate() {};
