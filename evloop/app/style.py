"""How a chat looks and ends."""

from collections import namedtuple

# as_json; escape: the name of the key that leaves; stamps: see `Stamps`; history: how many messages
# from before our time are shown (None: all that come); answered: whether somebody must have
# confirmed what was said; muted: nothing is shown at all.
Style = namedtuple("Style", "as_json escape stamps history answered muted")
