"""What a database of vaults says, as plain structures that can be printed or written as JSON.

Amounts, shares and prices are texts with all their decimals; times are UTC texts; what does not exist is None. Every
reading is one consistent snapshot and writes nothing.
"""

from ringfence.faces.event_lines import EVENT_KINDS
from ringfence.faces.queries.events import events
from ringfence.faces.queries.positions import positions
from ringfence.faces.queries.statements import statement_rows, statements
from ringfence.faces.queries.vaults import currency_of, mandate_of, vaults

__all__ = ["EVENT_KINDS", "currency_of", "events", "mandate_of", "positions", "statement_rows", "statements", "vaults"]
