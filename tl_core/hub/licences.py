"""Under which licences a model may be published, by those of the weights it started from."""

from tl_core.errors import plain
from tl_core.hub_errors import LicenceConflictError
from tl_core.models.catalogue import Backbone

# What the Hub calls them: https://huggingface.co/docs/hub/repositories-licenses
FREE = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "other")
_NOT_COMMERCIAL = ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "other")
# The first words of a row's licence, in small letters -> what may be chosen. Weights under a permissive licence may
# become part of a work under any; a condition on their use stays one.
_BY_WEIGHTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("apache-2.0", FREE),
    ("mit", FREE),
    ("bsd-3-clause", FREE),
    ("see tl_core/models/weights", FREE),  # the embedded one is Apache-2.0; its card tells of the research data sets
    ("cc-by-4.0", FREE[3:]),
    ("cc-by-nc-sa-4.0", ("cc-by-nc-sa-4.0", "other")),
    ("cc-by-nc-4.0", _NOT_COMMERCIAL),
)
_UNKNOWN = ("other",)


def allowed(backbone: Backbone) -> tuple[str, ...]:
    """The licences to choose from for a model that started from `backbone`, the one to suggest first."""
    text = backbone.weights_licence.lower()
    return next((found for start, found in _BY_WEIGHTS if text.startswith(start)), _UNKNOWN)


def check_licence(backbone: Backbone, licence: str) -> None:
    """Raises LicenceConflictError unless a model that started from `backbone` may be published under `licence`."""
    known = allowed(backbone)
    if licence not in known:
        weights = plain(backbone.weights_licence)
        raise LicenceConflictError(
            backbone=backbone.title, licence=licence, weights=weights, allowed=", ".join(f"“{one}”" for one in known)
        )
