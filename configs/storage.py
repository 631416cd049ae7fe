"""Optuna storages by their address: where processes, here and on other machines, agree on who does what."""

from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from configs.errors import UserError


def open_storage(text: str, folder: Path, key: str = "search.storage",
                 lost: str = "what it holds can be deleted, scores are in the run folder") -> BaseStorage:
    """The storage that `text` names; a relative FILE lies in the run folder `folder`. `key` is how the user said it,
    `lost` what a damaged one costs.

    Raises:
        UserError: another kind, no driver for it, no connection, or a damaged file.
    """
    # Optuna tells of each trial; what is to be told, the progress tells.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kind, _, rest = text.partition(":")
    # As one name everywhere: Optuna's lock is a link to it.
    path = (folder / rest.removeprefix("///")).resolve()
    shown = text
    try:
        if kind == "journal" and rest:
            # Symbolic links are made by one process alone, also on a disk that machines share.
            return JournalStorage(JournalFileBackend(str(path), JournalFileSymlinkLock(str(path))))
        if kind == "sqlite" and rest.startswith("///") and len(rest) > 3:
            return RDBStorage(f"sqlite:///{path}", {"connect_args": {"timeout": 60}})
        if kind in ("postgresql", "postgresql+psycopg2", "postgresql+psycopg"):
            # Without its password, whatever is wrong with the rest.
            shown = f"{kind}://…"
            url = make_url(text)
            shown = url.render_as_string(hide_password=True)
            # Which driver SQLAlchemy takes for none depends on its version.
            url = url.set(drivername="postgresql+psycopg") if kind == "postgresql" else url
            return RDBStorage(url.render_as_string(hide_password=False), {"pool_pre_ping": True})
    except ImportError:
        raise UserError(f"{key} {shown}: needs a driver; install it with: pip install 'psycopg[binary]'") from None
    except (SQLAlchemyError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{key} {shown}: cannot be opened ({reason[:200]}); {lost}") from None
    raise UserError(f"{key} = {shown!r}: must be sqlite:///FILE, journal:FILE or postgresql://…")
