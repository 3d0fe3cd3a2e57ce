"""The filter language: its grammar, its meaning, and its evaluation over columns. Pure functions, no IO."""
