"""From waveforms to batches of frames: features, augmentation, the feature store, batching."""
