"""The laws, the generator and the files of a run: the science against independent oracles, the splits against leaks."""

import json
import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from math import sqrt
from pathlib import Path

import pytest

import data.generate as generate
import data.prepare as prepare_module
from data.generate import (FACTORS, SMALLER, chain_tuples, comparison, complete, draw, example, forms, invented,
                           invented_law, key_of, one_step, question, rubric, solution, split_of, split_tuples, tuples,
                           units_of)
from data.laws import BY_NAME, CHAINS, FIELDS, LAWS
from data.prepare import (IMPERFECT, KINDS, corpus, imperfect, imperfect_solution, noisy_rubric, prepare, questions,
                          reduced_rubric, sample, show, shuffled_rubrics)
from rubrics import GENERIC, Example, Rubric, canonical, correct, final_answer, grade, key_relations, load_examples
