/** A promise that others settle; nobody has to wait for it. */
export function settled<T>() {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((given, failed) => {
    resolve = given;
    reject = failed;
  });
  promise.catch(() => {});
  return { promise, resolve, reject };
}
