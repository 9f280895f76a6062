//! The built-in MongoDB-compatible server in front of DocumentDB
