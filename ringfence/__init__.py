"""Ringfence: vaults for leveraged strategies whose loss is capped in the ledger, before the market moves."""
