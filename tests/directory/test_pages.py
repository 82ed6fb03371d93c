"""The listing in blocks, against a plain dict."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from evloop.directory.pages import PagedIndex


class ListingMachine(RuleBasedStateMachine):
    """A listing in blocks of three against a dict: splitting, emptying, pages cut by bytes."""

    @initialize(start=st.dictionaries(st.text("abcdé", max_size=2), st.binary(max_size=6)))
    def start(self, start: dict[str, bytes]) -> None:
        self.model = dict(start)
        self.listing = PagedIndex(list(start.items()), width=3)

    @rule(key=st.text("abcdé", max_size=2), entry=st.binary(max_size=6))
    def put(self, key: str, entry: bytes) -> None:
        (self.listing.replace if key in self.model else self.listing.insert)(key, entry)
        self.model[key] = entry

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.model:
            key = data.draw(st.sampled_from(sorted(self.model)))
            self.listing.remove(key)
            del self.model[key]

    @rule(
        after=st.none() | st.text("abcdé", max_size=2),
        count=st.integers(min_value=1, max_value=12),
        size=st.integers(min_value=7, max_value=60),
    )
    def page(self, after: str | None, count: int, size: int) -> None:
        keys = sorted(key for key in self.model if after is None or key > after)
        taken: list[str] = []
        for key in keys[:count]:
            # Each entry pays for the comma behind it, the last one too.
            if sum(len(self.model[k]) + 1 for k in [*taken, key]) > size:
                break
            taken.append(key)
        last = taken[-1] if len(taken) < len(keys) else None
        entries = b",".join([self.model[key] for key in taken])
        assert self.listing.page(after, count, size) == (entries, last)


TestListingMachine = ListingMachine.TestCase
TestListingMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
