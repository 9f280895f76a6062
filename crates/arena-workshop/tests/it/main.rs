//! What the model makes of texts: text in, values and problems out.

mod yaml;
