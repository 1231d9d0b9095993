"""Accounts: mandates, the ledger, shares, the journal and statements."""
