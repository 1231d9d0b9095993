"""Exchanges with books of their own: what they are asked, how an order lives, what differs, and the paper exchange."""
