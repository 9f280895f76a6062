//! Instructions: Markdown to a finished site, in memory
