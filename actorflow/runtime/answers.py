"""Answers to requests with a key, kept for as long as their callers may ask again: one key, one request, one answer."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actorflow import codec
from actorflow.core.merges import ABSENT
from actorflow.errors import ActorflowError, CodecError, InvalidItemError, TooManyRequestsError, from_wire
from actorflow.runtime.journal import ANSWERS

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.request import Request

KEY_CHARACTERS_MAX = 256


@dataclass(slots=True)
class Answer:
    """How a request with a key ended. at_s: in seconds of the wall clock. request_id: empty where that is unknown."""

    digest: int
    at_s: float
    value: Any = None
    error: ActorflowError | None = None
    request_id: str = ""

    def result(self) -> Any:
        """Return the reply. Raises: what the request ended with."""
        if self.error is not None:
            raise self.error
        return self.value


class Answers:
    """The keys of one host: of requests under way, and of answers that are kept.

    An answer is kept for `answers_kept_s` after its request ended, or until its caller says that it has it. There is
    room for `answers_kept` of them: with more, requests with a new key are refused, for no answer goes before its time.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._running: dict[str, Request] = {}
        self._kept: dict[str, Answer] = {}  # oldest first

    def find(self, key: str, stream: str, item: Any) -> Request | Answer | int:
        """Return the request under way with a key, or its answer, or the digest for a new one.

        Raises: InvalidItemError when the key was used for something else; TooManyRequestsError.
        """
        check_key(key)
        digest = digest_of(stream, item)
        running = self._running.get(key)
        known = running.more().digest if running is not None else None
        answer = self._kept.get(key) if running is None else None
        if answer is not None:
            known = answer.digest
        if self._host.replays.find(key) is not None:
            raise InvalidItemError(
                f"idempotency key {key!r} belongs to a request that streams its replies: attach to it, or take another",
                stream=stream,
            )
        if known is not None and known != digest:
            raise InvalidItemError(
                f"idempotency key {key!r} was used for another stream or item: take a new key for a new request",
                stream=stream,
            )
        if running is not None:
            return running
        if answer is not None:
            return answer
        self._make_room()
        return digest

    def _make_room(self) -> None:
        limits, now_s = self._host.limits, self._host.wall_s()
        while self._kept:
            key = next(iter(self._kept))
            if now_s - self._kept[key].at_s < limits.answers_kept_s:
                break
            self.forget((key,))
        if len(self._kept) + len(self._running) >= limits.answers_kept:
            raise TooManyRequestsError(
                f"host {self._host.name} keeps {len(self._kept)} answers in case their callers ask again (limit "
                f"{limits.answers_kept}); try again later, or raise Limits(answers_kept=…)",
                host=self._host.name,
            )

    def under(self, key: str) -> Request | Answer | None:
        """Return the request under way with a key, or its answer where that is kept."""
        return self._running.get(key) or self._kept.get(key)

    def begin(self, key: str, request: Request) -> None:
        """Note which request a key belongs to."""
        self._running[key] = request

    def ended(self, key: str, request: Request) -> None:
        """Keep the answer of a request, unless asking again with its key is as good as the first time."""
        if self._running.get(key) is request:
            del self._running[key]
            self.keep(key, request.more().digest or 0, request)

    def keep(self, key: str, digest: int, request: Request) -> None:
        """Keep the answer of a request that has ended, unless asking again is as good as the first time."""
        error = request.error
        if error is not None and error.retryable:
            return
        if error is None and request.replies is not None:
            request.value, request.replies = request.replies.take(), None
        value = request.answer_value() if error is None else None
        answer = Answer(digest, self._host.wall_s(), value, error, request.id)
        self._kept[key] = answer
        journal = self._host.journal
        if journal is not None:
            try:
                journal.put(ANSWERS, key, _kept(answer))
            except CodecError as fault:  # it can be given to nobody: not now, and not later
                answer.error = fault
                answer.value = None
                request.error = request.error or fault
                journal.put(ANSWERS, key, _kept(answer))

    def forget(self, keys: Any) -> None:
        """Forget answers that their callers have."""
        journal = self._host.journal
        for key in keys:
            if self._kept.pop(key, None) is not None and journal is not None:
                journal.put(ANSWERS, key, ABSENT)

    def restore(self, key: str, kept: list[Any]) -> None:
        """Take an answer back from the store."""
        digest, at_s, value, error, *more = kept  # stores of earlier versions have no more
        failed = from_wire(error) if error is not None else None
        self._kept[key] = Answer(digest, at_s, value, failed, more[0] if more else "")

    def restored(self) -> None:
        """Put what was taken back in the order of its time."""
        self._kept = dict(sorted(self._kept.items(), key=lambda each: each[1].at_s))

    def __len__(self) -> int:
        return len(self._kept)


def _kept(answer: Answer) -> list[Any]:
    error = answer.error.to_wire() if answer.error is not None else None
    return [answer.digest, answer.at_s, answer.value, error, answer.request_id]


def check_key(key: str) -> None:
    """Refuse an idempotency key that is none. Raises: InvalidItemError."""
    if not 0 < len(key) <= KEY_CHARACTERS_MAX:
        raise InvalidItemError(f"an idempotency key has 1 to {KEY_CHARACTERS_MAX} characters, not {len(key)}")


def digest_of(stream: str, item: Any) -> int:
    """Return a checksum of what a request asks. Raises: CodecError."""
    return zlib.crc32(codec.fingerprint(item), zlib.crc32(stream.encode()))
