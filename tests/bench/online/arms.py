"""The arms of `make bench-online`. All have the same b, learning rate and learner; all but the short ones its steps.

A short arm has half of uniform's updates (`runs.SHORT`), and a learning rate that decays over these: the paper's
headlines as a budget. `cached`: the reference scores the pool once, as score tables do. Tuned on `dev`, seeds 100, 101.
"""

from __future__ import annotations

from bench.online.runs import Arm

GAIN, STEEP = (("gain", 10.0),), (("gain", 20.0),)
BLEND = (*GAIN, ("online", 0.3))
RAMP = (0.9, 0.5, 1.0)  # of the filtering ratio: narrow while everything is new, wider later
STEADY = {"schedule": "constant", "averaging": 0.98}

ARMS = {
    "uniform": Arm(),
    "uniform + trusted": Arm(pool="pool+trusted"),
    "static filter": Arm(pool="static"),
    "hard learner": Arm(selector="hard_learner", fields=GAIN),
    "easy reference": Arm(selector="easy_reference", fields=GAIN, cached=True),
    "easy reference ramp": Arm(selector="easy_reference", fields=STEEP, filtering_ratio=RAMP, cached=True),
    "easy reference ramp short": Arm(
        selector="easy_reference", fields=STEEP, filtering_ratio=RAMP, cached=True, short=True
    ),
    "learnability": Arm(selector="learnability", fields=GAIN, cached=True),
    "learnability ramp": Arm(selector="learnability", fields=GAIN, filtering_ratio=RAMP, cached=True),
    "blend ramp": Arm(selector="blend", fields=BLEND, filtering_ratio=RAMP, cached=True),
    "blend ramp short": Arm(
        selector="blend",
        fields=BLEND,
        filtering_ratio=RAMP,
        cached=True,
        scoring_size=32,
        reference_steps=400,
        short=True,
    ),
    "RHO": Arm(selector="learnability", fields=(("pick", "top"),), online="learner", cached=True),
    "joint": Arm(selector="joint"),  # wants the reference's vectors of every super-batch
    # negative controls
    "shuffled": Arm(selector="shuffled", fields=(("of", GAIN),), cached=True),
    "random sub-batch": Arm(selector="learnability", fields=(("gain", 0.0),), cached=True),
    # a constant rate with averaged weights
    "uniform constant rate": Arm(**STEADY),
    "blend ramp constant rate": Arm(selector="blend", fields=BLEND, filtering_ratio=RAMP, cached=True, **STEADY),
    # sensitivity of the blend
    "blend gain 3": Arm(selector="blend", fields=(("gain", 3.0), ("online", 0.3)), filtering_ratio=RAMP, cached=True),
    "blend gain 30": Arm(selector="blend", fields=(("gain", 30.0), ("online", 0.3)), filtering_ratio=RAMP, cached=True),
    "blend ratio 0.5": Arm(selector="blend", fields=BLEND, cached=True),
    "blend ratio 0.8": Arm(selector="blend", fields=BLEND, filtering_ratio=0.8, cached=True),
    "blend ratio 0.9": Arm(selector="blend", fields=BLEND, filtering_ratio=0.9, cached=True),
    "blend proxy-ti": Arm(
        selector="blend", fields=BLEND, filtering_ratio=RAMP, cached=True, online="proxy-ti", reference="proxy-ti"
    ),
    "blend half size": Arm(selector="blend", fields=BLEND, filtering_ratio=RAMP, cached=True, scoring_size=32),
}
CORE = ("uniform", "easy reference ramp", "learnability", "joint")
HEADLINE = ("uniform", "easy reference ramp short", "blend ramp short")
ONLY = {  # arms that one workload alone has: a classifier has no pairs, and each workload its best short arm
    "joint": ("pairs",),
    "blend ramp short": ("pairs",),
    "easy reference ramp short": ("classes",),
}
