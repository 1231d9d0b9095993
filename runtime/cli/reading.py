"""Commands that read vaults and move money into and out of them."""
