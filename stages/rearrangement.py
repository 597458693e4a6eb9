"""The toy model of how rearranged knowledge is learnt: links that a reader can deduce become links it has been told (EntiGraph, section 6).

V entities; a source says of each ordered pair, with probability p = degree / V, that it is related. To train is to memorise. Each synthetic
text draws an ordered pair (x, y) and, where the source leads from x to y along z1 ... zk, tells the relations (x, z1), ..., (x, zk), (x, y).
Accuracy is the share of all V (V - 1) ordered pairs that the reader has been told of, and its limit the share that can be deduced.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

Relations = np.ndarray  # bool, V x V: [x, y] is whether x is related to y; the diagonal is false


def source(entities: int, degree: float, seed: int) -> Relations:
    """Return a source's relations: each ordered pair with probability `degree` / `entities`."""
    found = np.random.default_rng(seed).random((entities, entities)) < degree / entities
    np.fill_diagonal(found, False)
    return found


def tree(relations: Relations, root: int) -> tuple[np.ndarray, list[int]]:
    """Return the breadth-first tree from `root`: the parent of each entity (-1: out of reach, and for the root), and the order of visits."""
    parents, order, queue = np.full(len(relations), -1), [root], deque([root])
    seen = np.zeros(len(relations), dtype=bool)
    seen[root] = True
    while queue:
        at = queue.popleft()
        for next_ in np.flatnonzero(relations[at] & ~seen):
            seen[next_] = True
            parents[next_] = at
            order.append(int(next_))
            queue.append(int(next_))
    return parents, order


def subtree_sizes(relations: Relations) -> np.ndarray:
    """Return how many entities hang from j in i's tree, j included, for each i, j; 0 where j is out of i's reach, and for i itself."""
    sizes = np.zeros(relations.shape, dtype=int)
    for root in range(len(relations)):
        parents, order = tree(relations, root)
        for entity in reversed(order[1:]):
            sizes[root, entity] += 1
            if parents[entity] != root:
                sizes[root, parents[entity]] += sizes[root, entity]
    return sizes


def expected_accuracy(relations: Relations, texts: Sequence[float]) -> np.ndarray:
    """Return the exact expectation of the accuracy after each number of texts, given the source.

    A relation (i, j) that the source does not tell is told by a text with the chance s / N, s the size of j's subtree in i's tree and
    N = V (V - 1): so accuracy is |source| / N + (1 / N) sum of 1 - (1 - s / N)^t over those, a mixture of exponentials.
    """
    n = relations.shape[0] * (relations.shape[0] - 1)
    sizes, counts = np.unique(subtree_sizes(relations)[~relations], return_counts=True)
    sizes, counts = sizes[sizes > 0], counts[sizes > 0]
    untold = np.power(1 - sizes[None, :] / n, np.asarray(texts, dtype=float)[:, None])
    return (relations.sum() + ((1 - untold) * counts).sum(axis=1)) / n


def simulate(relations: Relations, texts: Sequence[int], seed: int) -> np.ndarray:
    """Return the accuracy of one reader after each number of texts (ascending)."""
    size = len(relations)
    trees = [tree(relations, root)[0] for root in range(size)]
    told, rng, found = relations.copy(), np.random.default_rng(seed), []
    done = 0
    for wanted in texts:
        for _ in range(wanted - done):
            x, y = rng.choice(size, 2, replace=False)
            while y != x and trees[x][y] >= 0:  # from y back to x; an entity out of reach has no parent
                told[x, y] = True
                y = trees[x][y]
        done = wanted
        found.append(told.sum() / (size * (size - 1)))
    return np.array(found)


def extinction(degree: float) -> float:
    """Return the smallest root of rho = exp(degree (rho - 1)): the chance that an entity leads to few others, for degree > 1."""
    rho = 0.0
    for _ in range(10_000):
        rho = float(np.exp(degree * (rho - 1)))
    return rho


def bounds(entities: int, degree: float, texts: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the theorem's lower and upper bound without their epsilon. They hold for V to infinity; near the limit small V are below both."""
    n, limit, t = entities * (entities - 1), (1 - extinction(degree)) ** 2, np.asarray(texts, dtype=float)
    p = degree / entities
    slow, fast = 1 - 1 / n, 1 - np.log(entities) / (n * np.log(degree))
    return p + limit * (1 - slow**t), p + limit * (1 - fast**t)


def branching(entities: int, degree: float, texts: Sequence[float], generations: int = 60) -> np.ndarray:
    """Return the approximation by a branching process: subtrees are as large as its progeny through l generations, l geometric.

    The progeny's generating function is G_l(s) = s exp(degree (G_{l-1}(s) - 1)), taken at s = exp(-t / N).
    """
    n, t = entities * (entities - 1), np.asarray(texts, dtype=float)
    s = np.exp(-t / n)
    g, left = s.copy(), np.zeros_like(s)
    for generation in range(generations):
        left += (degree - 1) / degree ** (generation + 1) * g
        g = s * np.exp(degree * (g - 1))
    return degree / entities + (1 - extinction(degree)) ** 2 * (1 - left)
