//! The agent inside a seat: editor, apps and the one listener
