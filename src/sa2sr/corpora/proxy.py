"""Proxy ratings for corpora with categories only.

They are the mean activation, valence and dominance of 46,160 naturally spoken segments of a class (MSP-Podcast,
scale 1-7), and are called proxy wherever they are used: agreement with them measures how well classes are told
apart, not agreement with listeners.
"""

from sa2sr.config import Scale

PROXY_SCALE = Scale(name="1-7 (proxy)", low=1, high=7)
PROXY_RATINGS = {
    "angry": {"activation": 5.34, "valence": 2.83, "dominance": 5.29},
    "happy": {"activation": 4.93, "valence": 4.97, "dominance": 4.89},
    "neutral": {"activation": 4.08, "valence": 4.10, "dominance": 4.29},
    "sad": {"activation": 3.54, "valence": 3.17, "dominance": 3.80},
}
