"""Every error of the domain, in one tree.

    LookalikeError
    ├── PhotographUnusable      another photograph is needed
    │   ├── NotAnImage, TooManyPixels
    │   ├── NoFace, FaceNotFound, FaceTooSmall, HeadTurned, UnlikeAFace
    │   └── Refused             an entry of a folder or an archive
    ├── CannotBeAsked           other parameters are needed
    │   └── UnknownControl, UnknownSize, NoCohort, ReferenceInvalid, TensorInvalid, BandEmpty, JobTooLarge,
    │       WebhookRefused
    ├── Unavailable             the same again, later, may do
    │   └── NotReady, Overloaded, DeadlineExceeded, ComputationFailed, JobsFull, TooManyJobs
    └── CannotStart             the operator has something to put right
        ├── ModelsInvalid, ProviderUnavailable, KeysInvalid, CredentialsInvalid
        ├── SourceUnreadable (SourceTooLarge), CannotRun, CannotListen
        └── RecogniserFailed, CohortInvalid

The message is a sentence that says what to do. `app.http.problems` has the table of what HTTP makes of them.
"""

from __future__ import annotations


class LookalikeError(Exception):
    """Whatever this project raises of its own accord."""


class PhotographUnusable(LookalikeError):
    """A photograph will not do."""


class NotAnImage(PhotographUnusable):
    """The bytes are not a whole JPEG, PNG or WebP picture."""


class TooManyPixels(PhotographUnusable):
    """The picture's header announces more pixels than are accepted."""


class NoFace(PhotographUnusable):
    """No face was found in the photograph."""


class FaceNotFound(PhotographUnusable):
    """The photograph has fewer faces than the index that was asked for."""


class FaceTooSmall(PhotographUnusable):
    """The face is too small to be told apart from others."""


class HeadTurned(PhotographUnusable):
    """The head is turned so far that its eyes lie together."""


class UnlikeAFace(PhotographUnusable):
    """What was found is unlike the photograph of an upright face: a drawing, a negative, or no face at all."""


class Refused(PhotographUnusable):
    """One entry of a source that is not read: an unsafe name, one that is taken, too many bytes, or damage."""


class CannotBeAsked(LookalikeError):
    """What is asked for does not exist, whatever the photograph."""


class UnknownControl(CannotBeAsked):
    """No control has this name."""


class UnknownSize(CannotBeAsked):
    """The model draws no pictures of this size."""


class NoCohort(CannotBeAsked):
    """A score is to be normalised, but the operator has no cohort, or one of another recogniser."""


class ReferenceInvalid(CannotBeAsked):
    """What was given as the reference of a photograph is none, or another recogniser's."""


class TensorInvalid(CannotBeAsked):
    """A tensor is missing, unknown, or not of the datatype, shape or range that the network takes."""


class BandEmpty(CannotBeAsked):
    """The search found no variant in the band."""


class JobTooLarge(CannotBeAsked):
    """A job has more photographs, or larger ones, than are taken."""


class WebhookRefused(CannotBeAsked):
    """Nobody is told of a job's end at this address: the operator does not allow it."""


class Unavailable(LookalikeError):
    """The service could not do it now."""


class NotReady(Unavailable):
    """The service is starting or about to stop."""


class Overloaded(Unavailable):
    """More images are waited for than the service takes on; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("The service is busy with other requests.")
        self.retry_after = retry_after


class DeadlineExceeded(Unavailable):
    """The request was given up because it took longer than the deadline."""


class ComputationFailed(Unavailable):
    """A network raised, or gave values that are not finite."""


class JobsFull(Unavailable):
    """The disk for jobs is full."""


class TooManyJobs(Unavailable):
    """The caller has as many jobs waiting as it may."""


class CannotStart(LookalikeError):
    """What the operator gave the service or a run cannot be used."""


class ModelsInvalid(CannotStart):
    """The model directory cannot be served; the message names the file and says what is wrong with it."""


class ProviderUnavailable(CannotStart):
    """The execution provider that was asked for cannot be had on this machine."""


class KeysInvalid(CannotStart, ValueError):
    """A list of keys cannot be used; the message says where, and never quotes it: it might hold a key.

    A ValueError too, so that settings are refused for it like for any other value.
    """


class CredentialsInvalid(CannotStart, ValueError):
    """A certificate chain, its key or the key of a mark cannot be used; the message never quotes a key.

    A ValueError too, for the same reason.
    """


class SourceUnreadable(CannotStart):
    """There is nothing that photographs could be taken from; the message says why."""


class SourceTooLarge(SourceUnreadable):
    """An archive has more in it than is looked at."""


class CannotRun(CannotStart):
    """A run over a data set cannot begin or go on; the message says why and what to do."""


class CannotListen(CannotStart):
    """The address to listen on is taken, or cannot be had."""


class RecogniserFailed(CannotStart):
    """A recogniser that is audited cannot be used, or gave what is no answer; the message names the file at fault."""


class CohortInvalid(CannotStart):
    """A cohort to normalise scores by cannot be used; the message says why."""
