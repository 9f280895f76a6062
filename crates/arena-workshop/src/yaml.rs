//! YAML as a tree that knows its lines, and the way from a tree to a struct
//! with every mistake reported at once.
