"""Every error this package raises: one root, one subclass for each cause."""


class PFedMoAPError(Exception):
    """Root of all errors raised on purpose by this package; the message names the remedy."""


class ConfigError(PFedMoAPError, ValueError):
    """An option is unknown, has the wrong type or contradicts another option."""


class BackboneError(PFedMoAPError, RuntimeError):
    """A vision-language model could not be loaded or lacks a required part."""


class DataError(PFedMoAPError, ValueError):
    """A data set is missing, empty, inconsistent or unreadable."""


class PartitionError(DataError):
    """The requested split of the data over clients cannot be satisfied."""


class ShapeError(PFedMoAPError, ValueError):
    """A tensor has another shape than the function documents."""


class UpdateRejectedError(PFedMoAPError, ValueError):
    """An upload failed the server's admission checks; nothing of it was used."""


class MethodError(PFedMoAPError, ValueError):
    """A method is unknown, or is used with a backbone or data that it cannot run on."""


class RunError(PFedMoAPError, RuntimeError):
    """A run directory is missing, damaged, or belongs to another configuration."""


class StorageError(PFedMoAPError, RuntimeError):
    """A file cannot be written: no space is left, or the folder is not writable."""


class PrivacyError(PFedMoAPError, ValueError):
    """A privacy guarantee would be void or overspent."""


class BlackBoxError(PFedMoAPError, RuntimeError):
    """A query to a black-box model was invalid, did not reach it, or had no usable answer."""
