"""How the schema came to be, one numbered step after another; shipped with the package."""
