-- The setting film_strip is called eval_samples, in the config, its changes and the measurements that were skipped.
UPDATE runs SET
    config = replace(config, '"film_strip"', '"eval_samples"'),
    config_changes = replace(config_changes, '"film_strip"', '"eval_samples"'),
    skipped = replace(skipped, '"film_strip"', '"eval_samples"');
