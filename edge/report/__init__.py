"""What this edge says upward: inventories, runs and states, through a durable outbox, signed as they leave."""
