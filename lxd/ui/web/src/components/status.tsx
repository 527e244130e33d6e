import { Badge } from "@mantine/core";

const colours: Record<string, string> = {
  running: "teal",
  ready: "teal",
  online: "teal",
  created: "teal",
  success: "teal",
  stopped: "gray",
  frozen: "blue",
  starting: "yellow",
  stopping: "yellow",
  freezing: "yellow",
  pending: "yellow",
  evacuated: "yellow",
  error: "red",
  errored: "red",
  offline: "red",
  failure: "red",
  cancelled: "orange",
};

/** A state, in a colour that helps and with the word that counts. */
export function Status({ status }: { status: string }) {
  return (
    <Badge variant="light" color={colours[status.toLowerCase()] ?? "gray"} miw="max-content">
      {status}
    </Badge>
  );
}
