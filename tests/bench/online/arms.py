"""The arms of `make bench-online`. All have the same b, learning rate, learner and steps."""

from __future__ import annotations

from bench.online.runs import Arm

GAIN = (("gain", 10.0),)
RAMP = (0.8, 0.5, 1.0)  # of the filtering ratio: narrow while everything is new, wider later

ARMS = {
    "uniform": Arm(),
    "uniform + trusted": Arm(pool="pool+trusted"),
    "static filter": Arm(pool="static"),
    "hard learner": Arm(selector="hard_learner", fields=GAIN),
    "easy reference": Arm(selector="easy_reference", fields=GAIN),
    "easy reference, ramp": Arm(selector="easy_reference", fields=GAIN, filtering_ratio=RAMP),
    "learnability": Arm(selector="learnability", fields=GAIN),
    "blend, ramp": Arm(selector="blend", fields=(*GAIN, ("online", 0.3)), filtering_ratio=RAMP),
    "RHO": Arm(selector="learnability", fields=(("pick", "top"),), online="learner"),
    "joint": Arm(selector="joint"),
    "shuffled": Arm(selector="shuffled", fields=(("of", GAIN),)),
}
CORE = ("uniform", "easy reference, ramp", "learnability", "joint")
HEADLINE = ("uniform", "easy reference, ramp", "learnability", "blend, ramp")
