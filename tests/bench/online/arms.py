"""The arms of `make bench-online`. All have the same b, learning rate and learner; all but the short ones its steps.

A short arm has as many updates as `runs.SHORT` leaves, and a learning rate that decays over these: the bars as a
budget. `cached`: the reference scores the pool once, as score tables do. Tuned with seed 100 and more, on held-out sets
that are not reported.
"""

from __future__ import annotations

from dataclasses import replace

from bench.online.runs import Arm

GAIN, STEEP = (("gain", 10.0),), (("gain", 20.0),)
RAMP = (0.95, 0.5, 1.0)  # of the filtering ratio: narrow while everything is new, wider later
CHEAPER_RAMP = (0.9, 0.5, 1.0)  # where an online model looks at all candidates
STEADY = {"schedule": "constant", "averaging": 0.98}

EASY = Arm(selector="easy_reference", fields=STEEP, filtering_ratio=RAMP, cached=True)
NARROWER_RAMP = (0.98, 0.7, 1.0)
CONTRASTIVE = replace(EASY, fields=(("gain", 1.0),), filtering_ratio=NARROWER_RAMP, contrastive=True)
BLEND = replace(EASY, selector="blend", fields=(*STEEP, ("online", 0.3)), filtering_ratio=CHEAPER_RAMP)
LEARNABILITY = Arm(selector="learnability", fields=GAIN, cached=True)
LEARNABILITY_RAMP = replace(LEARNABILITY, fields=STEEP, filtering_ratio=CHEAPER_RAMP)
CONTRASTIVE_LEARNABILITY = replace(
    CONTRASTIVE, selector="learnability", fields=(("gain", 1.0), ("loss", "softmax")), filtering_ratio=(0.9, 0.6, 1.0)
)
JOINT = Arm(selector="joint")  # wants the reference's vectors of every super-batch

ARMS = {
    "uniform": Arm(),
    "easy reference ramp": EASY,
    "easy reference ramp short": replace(EASY, short=True),
    "contrastive reference ramp": CONTRASTIVE,
    "contrastive reference ramp short": replace(CONTRASTIVE, short=True),
    "blend ramp": BLEND,
    "blend ramp short": replace(BLEND, short=True),
    "learnability": LEARNABILITY,
    "learnability ramp": LEARNABILITY_RAMP,
    "learnability ramp short": replace(LEARNABILITY_RAMP, short=True),
    "contrastive learnability ramp": CONTRASTIVE_LEARNABILITY,
    "contrastive learnability ramp short": replace(CONTRASTIVE_LEARNABILITY, short=True),
    "joint": JOINT,
    "joint short": replace(JOINT, short=True),
    "RHO": Arm(selector="learnability", fields=(("pick", "top"),), online="learner", cached=True),
    "hard learner": Arm(selector="hard_learner", fields=GAIN),
    "easy reference": Arm(selector="easy_reference", fields=GAIN, cached=True),
    # without online selection: the best simple alternatives
    "uniform short": Arm(short=True),
    "uniform + trusted": Arm(pool="pool+trusted"),
    "static filter": Arm(pool="static"),
    "static filter short": Arm(pool="static", short=True),
    # negative controls
    "shuffled short": replace(EASY, selector="shuffled", fields=(("of", STEEP),), short=True),
    "random sub-batch short": replace(LEARNABILITY, fields=(("gain", 0.0),), short=True),
    # a constant rate with averaged weights
    "uniform constant rate": Arm(**STEADY),
    "easy reference ramp constant rate": replace(EASY, **STEADY),
    # sensitivity, around the short easy-reference ramp
    "gain 5 short": replace(EASY, fields=(("gain", 5.0),), short=True),
    "gain 80 short": replace(EASY, fields=(("gain", 80.0),), short=True),
    "ratio 0.5 short": replace(EASY, filtering_ratio=0.5, short=True),
    "ratio 0.8 short": replace(EASY, filtering_ratio=0.8, short=True),
    "ratio 0.95 short": replace(EASY, filtering_ratio=0.95, short=True),
    "ramp from 0.9 short": replace(EASY, filtering_ratio=CHEAPER_RAMP, short=True),
    "stop at half short": replace(EASY, filtering_ratio=0.9, stop=0.5, short=True),
    "proxy-ti short": replace(EASY, reference="proxy-ti", short=True),
    "blend proxy-ti short": replace(BLEND, online="proxy-ti", reference="proxy-ti", short=True),
    "blend half size short": replace(BLEND, scoring_size=32, short=True),
}
ONLY = {name: ("pairs",) for name in ARMS if name.startswith(("joint", "contrastive"))}  # a classifier has no pairs
BEST = {"pairs": "contrastive reference ramp short", "classes": "easy reference ramp short"}
CORE = {
    "pairs": ("uniform", BEST["pairs"], "contrastive learnability ramp short", "joint short"),
    "classes": ("uniform", BEST["classes"], "learnability ramp short"),
}
HEADLINE = {workload: ("uniform", "uniform + trusted", best) for workload, best in BEST.items()}
