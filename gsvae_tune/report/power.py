"""How many replicates a planned comparison needs: the calculator behind `gsvae-tune plan`.

A comparison of n pairs is counted as supported when both hold:

    (a) the two-sided sign-flip test on the n differences gives p <= alpha, the mean being negative
    (b) mean + sqrt((t se)^2 + lead^2) < 0      (inference.half_width)

n      pairs of replicates, each an arm's and the baseline's loss with the same seed
mean   of the n differences arm - baseline, nats; negative: the arm is better
sd     standard deviation of the differences over seeds, nats; se = sample sd / sqrt(n)
luck   standard deviation of what two searches repeated would move the true difference by, nats;
       0 for settings that were not searched (inference.search_luck of both, root sum of squares)
lead   what luck in searching may give, nats (inference.search_lead); by default z luck
t, z   the 1 - alpha / 2 quantiles of Student's t with n - 1 degrees of freedom, and the normal's

The model: each study has the true difference Normal(-effect, luck^2), drawn once by its searches,
and its differences are Normal(true difference, sd^2). More seeds shrink se and not luck: with many
of them power ends at Phi((effect - lead) / luck), whatever the seeds.

The differences of real runs have heavier tails, and sd comes from a few pilot runs. Take the
number as an order of magnitude.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import partial

import numpy as np

from gsvae_tune.report.inference import exact_sign_flip_p, half_width, smallest_p

# Up to here the test is run on simulated studies: 2^11 sums each. Above, the paired t-test stands
# for it; at 12 pairs the two are less than 2 points of power apart.
SIMULATED_PAIRS = 12
STUDIES = 20_000  # standard error of a power of 0.8: 0.3 points; 12 pairs take 0.1 s
SEED = 0

# Quantiles of the sample sd over which the t-test's power is averaged: within 0.00002 of the
# noncentral t distribution for 13 pairs and more.
QUANTILES = 1_000


def power(
    n: int,
    effect_nats: float,
    sd_nats: float,
    *,
    alpha: float = 0.05,
    search_luck_nats: float = 0.0,
    lead_nats: float | None = None,
) -> float:
    """Return the probability that n pairs end as supported when the arm is better by the effect.

    effect_nats > 0 means that the arm is better; 0 gives the rate of false support, alpha / 2 or
    less. alpha is the comparison's own: with Holm over m of them, 0.05 / m. Up to SIMULATED_PAIRS
    the share of STUDIES simulated studies, above that the paired t-test and no simulation; the
    same arguments give the same number. 0 where n pairs cannot reach alpha at all, and below two.

    Raises ValueError for alpha outside (0, 1) and for a negative or not finite sd, luck or effect.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha lies between 0 and 1, both excluded: it is {alpha}")
    if not np.isfinite(effect_nats):
        raise ValueError(f"effect_nats is a finite number: it is {effect_nats}")
    for name, value in (("sd_nats", sd_nats), ("search_luck_nats", search_luck_nats)):
        if not 0 <= value < np.inf:
            raise ValueError(f"{name} is 0 or more and finite: it is {value}")
    if n < 2 or smallest_p(n) > alpha:
        return 0.0
    lead = normal_quantile(alpha) * search_luck_nats if lead_nats is None else lead_nats
    rule = _by_simulation if n <= SIMULATED_PAIRS else _by_t_test
    return rule(n, effect_nats, sd_nats, alpha, search_luck_nats, lead)


def replicates_needed(
    effect_nats: float,
    sd_nats: float,
    power_wanted: float = 0.8,
    *,
    alpha: float = 0.05,
    search_luck_nats: float = 0.0,
    lead_nats: float | None = None,
    most: int = 1000,
) -> int | None:
    """Return the smallest number of pairs whose power is at least the wanted one.

    None where `most` pairs do not reach it: the effect is too small for the seeds' noise, or the
    luck of the searches alone hides it, which no number of seeds changes. Raises ValueError for a
    wanted power outside (0, 1), and as `power` does.
    """
    if not 0 < power_wanted < 1:
        raise ValueError(f"the power wanted lies between 0 and 1: it is {power_wanted}")

    reached = partial(
        power,
        effect_nats=effect_nats,
        sd_nats=sd_nats,
        alpha=alpha,
        search_luck_nats=search_luck_nats,
        lead_nats=lead_nats,
    )

    # One by one where powers are simulated, since noise may break their order; then by halves.
    for n in range(1, min(SIMULATED_PAIRS, most) + 1):
        if reached(n) >= power_wanted:
            return n
    larger = range(SIMULATED_PAIRS + 1, most + 1)
    place = bisect_left(larger, power_wanted, key=reached)
    return larger[place] if place < len(larger) else None


def detectable_effect(
    n: int,
    sd_nats: float,
    power_wanted: float = 0.8,
    *,
    alpha: float = 0.05,
    search_luck_nats: float = 0.0,
    lead_nats: float | None = None,
) -> float | None:
    """Return the smallest effect that n pairs find with the power wanted; None if no effect does.

    Raises ValueError as `replicates_needed` does.
    """
    if not 0 < power_wanted < 1:
        raise ValueError(f"the power wanted lies between 0 and 1: it is {power_wanted}")
    from scipy.optimize import brentq

    def missing(effect: float) -> float:
        luck = search_luck_nats
        found = power(n, effect, sd_nats, alpha=alpha, search_luck_nats=luck, lead_nats=lead_nats)
        return found - power_wanted

    # Ten times all the noise there is: found always, if n pairs can find anything.
    most = 10.0 * float(np.hypot(sd_nats, search_luck_nats)) + 10.0 * (lead_nats or 0.0)
    if missing(most) < 0:
        return None if most else 0.0
    return float(brentq(missing, 0.0, most, xtol=1e-4 * most)) if most else 0.0


def _by_simulation(
    n: int, effect: float, sd: float, alpha: float, luck: float, lead: float
) -> float:
    """Return the share of supported studies among simulated ones, the exact test run on each.

    Every call draws the same standard normals and n pairs are the first n of SIMULATED_PAIRS, so
    that neighbours in n, effect, sd and luck differ by less than two independent simulations do.
    """
    generator = np.random.default_rng(SEED)
    searches = generator.standard_normal((STUDIES, 1))
    seeds = generator.standard_normal((STUDIES, SIMULATED_PAIRS))[:, :n]
    differences = -(effect + luck * searches) + sd * seeds
    # 250 studies at a time: the sums of 12 pairs take 4 MB and stay within the processor's cache.
    blocks = np.split(differences, STUDIES // 250)
    p = np.concatenate([exact_sign_flip_p(block) for block in blocks])
    mean = differences.mean(axis=1)
    se = differences.std(axis=1, ddof=1) / np.sqrt(n)
    wide = half_width(se, n, lead, 1 - alpha)
    return float(np.mean((p <= alpha) & (mean + wide < 0)))


def _by_t_test(n: int, effect: float, sd: float, alpha: float, luck: float, lead: float) -> float:
    """Return the power with the paired t-test in place of the sign-flip test.

    Given the sample sd, both conditions say that the mean lies below a number, and the mean is
    normal and independent of it: what is left is an average over the sample sd's distribution.
    """
    from scipy.special import gammaincinv, ndtr

    spread = np.hypot(luck, sd / np.sqrt(n))
    if spread == 0:
        return float(effect > 0)
    freedom = n - 1
    middle = (np.arange(QUANTILES) + 0.5) / QUANTILES
    chi_squared = 2 * gammaincinv(freedom / 2, middle)
    se = sd * np.sqrt(chi_squared / freedom / n)
    needed = half_width(se, n, lead, 1 - alpha)
    return float(ndtr((effect - needed) / spread).mean())


def normal_quantile(alpha: float) -> float:
    """Return z, the normal quantile of both tails together."""
    from scipy.special import ndtri

    return float(ndtri(1 - alpha / 2))
