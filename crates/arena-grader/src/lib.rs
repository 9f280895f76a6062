//! Runs checks against a seat and says what came out
