//! Workshop databases: users, data, restore
