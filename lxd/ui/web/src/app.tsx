import { createContext, useContext, useEffect, useMemo, useSyncExternalStore } from "react";
import type { ReactNode } from "react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useSearchParams } from "react-router";
import type { Connection } from "./api/events.ts";
import { EventStream, touched } from "./api/events.ts";
import { get, path } from "./api/request.ts";
import type { Server } from "./api/types.ts";

export const defaultProject = "default";

/** The project that the address of the page names. */
export function useProject(): string {
  const [params] = useSearchParams();
  return params.get("project") ?? defaultProject;
}

/** Makes addresses of pages that stay in the project. */
export function useHref(): (to: string) => string {
  const project = useProject();
  return (to) => (project === defaultProject ? to : `${to}?project=${encodeURIComponent(project)}`);
}

/** Parameters of requests in a project; the default one goes without saying. */
export function inProject(project: string): { project?: string } {
  return project === defaultProject ? {} : { project };
}

const Events = createContext<EventStream | undefined>(undefined);

export function useEvents(): EventStream {
  const e = useContext(Events);
  if (e === undefined) throw new Error("there is no event stream here");
  return e;
}

export function useConnection(): Connection {
  const events = useEvents();
  return useSyncExternalStore(events.watch, events.connection);
}

/**
 * Listens to the server while somebody is logged in, and makes what was read of a thing
 * be read again when the thing has changed. Bursts of events are one reading.
 */
export function LiveData(props: { children: ReactNode }) {
  const client = useQueryClient();
  const events = useMemo(
    () => new EventStream(() => new URLSearchParams(window.location.search).get("project") ?? defaultProject),
    [],
  );
  useEffect(() => {
    const due = new Set<string>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const flush = () => {
      timer = undefined;
      for (const key of due) void client.invalidateQueries({ queryKey: [key] });
      due.clear();
    };
    const leave = [
      events.subscribe((e) => {
        touched(e).forEach((k) => due.add(k));
        if (due.size > 0) timer ??= setTimeout(flush, 150);
      }),
      events.returned(() => void client.invalidateQueries()),
      // The server also ends the connection of a session that is over.
      events.watch(() => {
        if (events.connection() === "lost") void client.invalidateQueries({ queryKey: ["server"] });
      }),
    ];
    events.start();
    return () => {
      clearTimeout(timer);
      leave.forEach((f) => f());
      events.stop();
    };
  }, [client, events]);
  return <Events.Provider value={events}>{props.children}</Events.Provider>;
}

export function useServer() {
  return useQuery({ queryKey: ["server"], queryFn: ({ signal }) => get<Server>(path([]), signal), staleTime: 30_000 });
}

/** What is known of the server, inside of pages that are shown to the logged in only. */
export function useEnvironment(): NonNullable<Server["environment"]> | undefined {
  return useServer().data?.environment;
}
