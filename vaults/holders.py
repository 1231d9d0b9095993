"""The register of one vault: who holds how many shares, and the orders that wait to enter or to leave.

Works inside the caller's transaction; what an order means and when it is settled is said elsewhere.
"""

from sqlalchemy import Connection, bindparam, insert, select, update

from ringfence.vaults.queue import Request, Settlement
from ringfence.vaults.tables import flow, holding

__all__ = ["Holders"]

_WAITING = (
    select(flow).where(flow.c.vault_id == bindparam("vault"), flow.c.remaining > 0).order_by(flow.c.seq)
)  # fmt: skip
_HELD = select(holding.c.shares).where(
    holding.c.vault_id == bindparam("vault"), holding.c.holder == bindparam("of_holder")
)
_HOLDERS = select(holding.c.holder).where(holding.c.vault_id == bindparam("vault"))
_ORDERING = select(flow.c.holder).where(flow.c.vault_id == bindparam("vault"), flow.c.remaining > 0)


def waiting_of(connection: Connection, vault_id: int) -> list[Request]:
    """Everybody's orders of a vault that wait, in order."""
    return [
        Request(row["seq"], row["side"], row["holder"],
                row["assets"] if row["side"] == "deposit" else row["shares"], row["remaining"],
                row["requested_ts"], bool(row["accepts_locked"]))
        for row in connection.execute(_WAITING, {"vault": vault_id}).mappings()
    ]  # fmt: skip


class Holders:
    """The holders of the vault of this number."""

    def __init__(self, connection: Connection, vault_id: int, waiting: list[Request] | None = None) -> None:
        """`waiting`: what waits of everybody, where it was read already under the vault's lock."""
        self._connection, self._id = connection, vault_id
        self._waiting = waiting

    def held(self, holder: str) -> int:
        """A holder's shares, those that wait for redemption included."""
        found = self._connection.execute(_HELD, {"vault": self._id, "of_holder": holder}).scalar_one_or_none()
        return int(found or 0)

    def names(self) -> tuple[str, ...]:
        """Everyone who has ever held shares or whose deposit waits, by name."""
        this = {"vault": self._id}
        found = {name for every in (_HOLDERS, _ORDERING) for name in self._connection.execute(every, this).scalars()}
        return tuple(sorted(found))

    def requests(self, holder: str | None = None) -> list[Request]:
        """What waits, in order: everybody's, or one holder's."""
        if self._waiting is None:
            self._waiting = waiting_of(self._connection, self._id)
        return [request for request in self._waiting if holder in (None, request.holder)]

    def ask(self, request: Request, minted: int = 0) -> None:
        """Keep a new order; `minted` are the shares of a deposit that was settled at once."""
        self._waiting = None
        enters = request.side == "deposit"
        self._connection.execute(
            insert(flow).values(
                vault_id=self._id, seq=request.seq, holder=request.holder, side=request.side,
                assets=request.asked if enters else 0, shares=minted if enters else request.asked,
                remaining=0 if minted else request.remaining, cancelled=0, requested_ts=request.given,
                accepts_locked=int(request.accepts_locked),
            )
        )  # fmt: skip

    def cancel(self, request: Request) -> None:
        """Nothing of the order waits any more."""
        self._change(request.seq, remaining=0, cancelled=request.remaining)

    def settle(self, one: Settlement) -> None:
        """Mint or burn the holder's shares, and keep what is left of the order."""
        enters = one.side == "deposit"
        if one.shares:
            self.hold(one.holder, one.shares if enters else -one.shares)
        told = {"shares": flow.c.shares + one.shares} if enters else {"assets": flow.c.assets + one.assets}
        self._change(one.request, remaining=one.remaining, **told)

    def hold(self, holder: str, shares: int) -> None:
        """Add (+) or take (-) shares."""
        of_holder = (holding.c.vault_id == self._id) & (holding.c.holder == holder)
        changed = self._connection.execute(update(holding).where(of_holder).values(shares=holding.c.shares + shares))
        if changed.rowcount == 0:
            self._connection.execute(insert(holding).values(vault_id=self._id, holder=holder, shares=shares))

    def _change(self, seq: int, **columns: object) -> None:
        self._waiting = None
        this = (flow.c.vault_id == self._id) & (flow.c.seq == seq)
        self._connection.execute(update(flow).where(this).values(**columns))
