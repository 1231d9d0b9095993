"""Where the runtime finds its database and its broker (RINGFENCE_DATABASE, RINGFENCE_BROKER), where its vaults trade
(RINGFENCE_EXCHANGE, RINGFENCE_EXCHANGE_FAULTS) and how it logs (RINGFENCE_LOG), from the environment."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ringfence.runtime.errors import SettingRefused
from ringfence.words.addresses import concealed

__all__ = ["Settings", "settings"]

DATABASE_SCHEMES = ("sqlite", "postgresql", "postgresql+psycopg", "postgres")
BROKER_SCHEMES = ("redis", "rediss", "redis+socket", "memory")


class Settings(BaseSettings):
    """The addresses, refused at once when their kind is unknown; passwords are not part of the repr."""

    model_config = SettingsConfigDict(env_prefix="RINGFENCE_", extra="ignore", frozen=True, hide_input_in_errors=True)

    database: Annotated[str, NoDecode] = Field(default="sqlite:///ringfence.db", min_length=1)
    broker: Annotated[str, NoDecode] = Field(default="redis://localhost:6379/0", min_length=1)
    log: Literal["text", "json"] = "text"
    exchange: Path | None = None
    """A folder of paper exchanges with books of their own; None: the venue fills at once."""
    exchange_faults: Path | None = None
    """What goes wrong at them: JSON, as `markets.exchange.faults` has it."""

    def model_post_init(self, context: Any, /) -> None:
        """Refuses an address whose scheme names nothing that is supported."""
        for name, schemes in (("database", DATABASE_SCHEMES), ("broker", BROKER_SCHEMES)):
            url: str = getattr(self, name)
            scheme, separator, _ = url.partition("://")
            if not separator or scheme not in schemes:
                expected = " or ".join(f"{scheme}://..." for scheme in schemes)
                raise SettingRefused(f"RINGFENCE_{name.upper()}", concealed(url), expected)

    def __repr_args__(self) -> Any:
        return [("database", concealed(self.database)), ("broker", concealed(self.broker)), ("log", self.log)]


def settings(**overrides: str) -> Settings:
    """The settings from the environment; `overrides` (the command line's) come first. Refused: SettingRefused."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = f"RINGFENCE_{'.'.join(str(part) for part in first['loc']).upper()}"
        raise SettingRefused(name, "", first["msg"]) from None
