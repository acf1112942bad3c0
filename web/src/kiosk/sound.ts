// The locker's two sounds, made here: a reminder that a door stands open, and an alarm for one that still does.

export type Sound = 'chime' | 'alarm';

/** Hz of each note and the seconds it lasts. Between 500 and 3000 Hz, where old ears hear best. */
const NOTES: Record<Sound, [number, number][]> = {
  chime: [
    [880, 0.25],
    [659, 0.45],
  ],
  alarm: [
    [1320, 0.18],
    [990, 0.18],
    [1320, 0.18],
    [990, 0.18],
  ],
};

const LOUDNESS = 0.4; // of full: heard two metres away at a device that is set for speech

let device: AudioContext | undefined;

export function play(sound: Sound): void {
  device ??= new AudioContext();
  let at = device.currentTime;
  for (const [hertz, seconds] of NOTES[sound]) {
    const tone = new OscillatorNode(device, { frequency: hertz });
    const shape = new GainNode(device, { gain: LOUDNESS });
    shape.gain.setValueAtTime(LOUDNESS, at);
    shape.gain.exponentialRampToValueAtTime(0.001, at + seconds); // or each note would end with a click
    tone.connect(shape).connect(device.destination);
    tone.start(at);
    tone.stop(at + seconds);
    at += seconds;
  }
}
