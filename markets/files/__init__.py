"""Files of bars and funding rates, as exchanges, libraries and charting sites write them, told apart by content.

`contents` opens and unpacks within bounds, `tables` and `csv_table` hold columns, `forms` knows what they are called,
`clocks` when they are, `names` of which instrument, and `reading` makes series of them. pyarrow is imported only when a
file is read.
"""

from ringfence.markets.files.reading import read_bars, read_funding

__all__ = ["read_bars", "read_funding"]
