"""Whether the answers to exercises are right; one module a lesson.

A check says for which input an answer is wrong, and not what would be right.
"""
