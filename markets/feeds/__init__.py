"""Feeds: prices as they come in, what may be done on them, and the bars that are over.

`ticks` lets prices in by rule, `quality` says what a price is good for, `closing` when a bar is over, `gathering` holds
bars until their marks and funding stamps have come, `silence` says when nothing was traded. `source` is what every
source answers to; `replay`, `folder` and `rest` are three of them, `together` is several as one. Nothing here knows a
database; the time comes as an argument, and a clock is read only to bound a wait.
"""
