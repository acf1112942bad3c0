// The sound of a door that was left open: two soft tones, made here, so that no file has to be loaded.

let audio: AudioContext | undefined;

/** Sound it once. A browser that has no sound, or gives none before a touch, stays silent; the screen says it too. */
export function chime(): void {
  try {
    audio ??= new AudioContext();
    void audio.resume();
    tone(audio, 880, 0);
    tone(audio, 660, 0.35);
  } catch {
    // No sound device.
  }
}

function tone(context: AudioContext, hertz: number, after: number): void {
  const begin = context.currentTime + after;
  const volume = new GainNode(context, { gain: 0 });
  const source = new OscillatorNode(context, { frequency: hertz });
  volume.gain.setValueAtTime(0, begin);
  volume.gain.linearRampToValueAtTime(0.3, begin + 0.02);
  volume.gain.exponentialRampToValueAtTime(0.001, begin + 0.3);
  source.connect(volume).connect(context.destination);
  source.start(begin);
  source.stop(begin + 0.3);
}
