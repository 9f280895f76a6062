//! What must survive: people, attempts, results, orders, events
