"""A real PostgreSQL and a real Redis from wheels, for whoever has no servers of their own."""
