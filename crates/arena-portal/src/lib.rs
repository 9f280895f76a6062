//! Web pages, API and live events for participants and facilitators
