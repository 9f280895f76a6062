//! The command line as people and scripts meet it: the real executable, its
//! texts and exit codes, with good and bad workshops and on machines that lack
//! something. Whole events are told in `tests/story`.

mod bad_input;
mod interrupts;
mod logs;
mod machine;
mod plans;
mod serve;
mod texts;
mod world;
