//! What a lost job may have left in the world.
