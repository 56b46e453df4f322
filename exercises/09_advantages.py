"""9. Group-relative advantages                                        about 10 lines, 15 minutes

GRPO has no teacher: it draws several answers to one question and asks which were better than their siblings.

    A_i = (reward_i - mean of its group) / standard deviation of its group

    rollouts   list of objects with a field `advantage`, which you set; neighbours belong together: the first
               `group_size` rollouts answer one question, the next `group_size` another, and so on
    rewards    list of floats, one a rollout
    out        the share of groups, 0 to 1, in which all rewards are equal. They carry no signal: advantage 0

The standard deviation divides by the number of rewards, not by one less.

By hand: rewards 1 0 0 0 | 1 1 1 1 with group 4. First group: mean 0.25, standard deviation
sqrt((0.75^2 + 3 x 0.25^2) / 4) = 0.4330; advantages 0.75 / 0.4330 = 1.7321 and three times -0.25 / 0.4330 = -0.5774.
The second group has no signal: four times 0. That is one group of two: the result is 0.5.

Why the group and not the batch: an easy question would get nothing but praise and a hard one nothing but blame, which
says which question it was, not which answer was good.

The answer lives in step.py: set_advantages. Check with: python -m exercises.check 9
"""


def set_advantages(rollouts: list, rewards: list[float], group_size: int) -> float:
    raise NotImplementedError("exercise 9: replace this line")
