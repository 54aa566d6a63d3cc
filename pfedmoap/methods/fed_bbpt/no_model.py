"""Why a client's model of Fed-BBPT cannot be exported."""

from typing import NoReturn

from pfedmoap.contract.folding import refuse_to_fold
from pfedmoap.wire.messages import Arrays, Download


def model_is_elsewhere(download: Download, local: Arrays | None) -> NoReturn:
    """See `CanFold`: clients ask a model that they do not have.

    Raises:
        MethodError: Always.
    """
    del download, local
    refuse_to_fold(
        "clients of fed_bbpt ask a model that they do not have, and that its owner does not give "
        "away; serve the run itself (`pfedmoap serve-model RUN --client N`)"
    )
