"""People at the origin: accounts, what they may do and where, and what they did."""
