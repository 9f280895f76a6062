// The whole server: Node and nothing else. It starts again by itself when a file is saved.
import { createServer } from 'node:http';
import { greet } from './lab/hello-1.lab.js';

const port = Number(process.env.PORT ?? 5000);

const server = createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  try {
    if (request.method === 'GET' && url.pathname === '/health') {
      return answer(response, 200, { status: 'ok' });
    }
    if (request.method === 'GET' && url.pathname === '/api/greeting') {
      const name = url.searchParams.get('name') ?? undefined;
      return answer(response, 200, { greeting: greet(name) });
    }
    return answer(response, 404, { error: `There is nothing at ${url.pathname}.` });
  } catch (error) {
    console.error(error);
    return answer(response, 500, { error: String(error) });
  }
});

function answer(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

server.listen(port, () => console.log(`Listening on port ${port}.`));
