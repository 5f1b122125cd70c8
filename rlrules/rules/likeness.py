"""Texts in an order in which like stands by like, so that what can be merged meets in one call."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.sparse import csr_matrix
from scipy.spatial.distance import squareform

# Distances between all pairs of one block: 3,000 texts take 70 MB and two seconds.
BLOCK = 3000
_WORD = re.compile(r"\w+")


def by_likeness(texts: Sequence[str]) -> list[int]:
    """Positions of `texts` such that similar ones are neighbours.

    Average-linkage clustering of cosine distances between the texts' words, rarer words weighing more (tf-idf).
    Larger lists are ordered block by block.
    """
    order: list[int] = []
    blocks = -(-len(texts) // BLOCK)
    for block in range(blocks):
        places = list(range(block, len(texts), blocks))
        order += [places[leaf] for leaf in _leaves([texts[place] for place in places])]
    return order


def _leaves(texts: Sequence[str]) -> list[int]:
    if len(texts) < 3:
        return list(range(len(texts)))
    distances = np.clip(1 - _similarities(texts), 0, None)
    np.fill_diagonal(distances, 0)
    return [int(leaf) for leaf in leaves_list(linkage(squareform(distances, checks=False), "average"))]


def _similarities(texts: Sequence[str]) -> NDArray[np.float64]:
    words = [Counter(_WORD.findall(text.casefold())) for text in texts]
    known = {word: place for place, word in enumerate(sorted({word for counts in words for word in counts}))}
    seen = Counter(word for counts in words for word in counts)
    rows = [row for row, counts in enumerate(words) for _ in counts]
    columns = [known[word] for counts in words for word in counts]
    weights = [n * np.log(1 + len(texts) / seen[word]) for counts in words for word, n in counts.items()]
    table = csr_matrix((weights, (rows, columns)), shape=(len(texts), max(1, len(known))), dtype=np.float64)
    lengths = np.sqrt(np.asarray(table.multiply(table).sum(axis=1))).ravel()
    lengths[lengths == 0] = 1.0
    products: NDArray[np.float64] = (table @ table.T).toarray()
    return products / np.outer(lengths, lengths)
