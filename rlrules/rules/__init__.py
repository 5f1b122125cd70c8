"""AutoRule: from preferences to rules (Wang and Xiong 2025): pairs, reasoning, candidates, merge, agreement."""
