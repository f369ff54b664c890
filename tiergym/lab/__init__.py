"""The lab: training, export, evaluation, paired comparison, experiments, statistics, results, pictures."""
