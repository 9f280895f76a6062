//! This machine as a runtime: tools, sandbox, template, seats, convergence
