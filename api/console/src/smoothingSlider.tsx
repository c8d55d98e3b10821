/** The choice of how much curves are smoothed. */

import { Slider } from "@mantine/core";

interface SmoothingProps {
  /** Weight of the earlier values, see `smoothed`. */
  value: number;
  onChange: (value: number) => void;
}

export function SmoothingSlider({ value, onChange }: SmoothingProps) {
  return (
    <div className="smoothing">
      <span id="smoothing">Smoothing</span>
      <Slider
        min={0}
        max={0.95}
        step={0.05}
        value={value}
        onChange={onChange}
        label={(weight) => weight.toFixed(2)}
        thumbProps={{ "aria-labelledby": "smoothing" }}
      />
    </div>
  );
}
