import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { inProject } from "../app.tsx";
import { get, path, request } from "./request.ts";
import type {
  Image,
  Instance,
  InstanceState,
  Member,
  Network,
  Operation,
  Profile,
  Project,
  Resources,
  Session,
  StoragePool,
} from "./types.ts";

// The first element of each key is what events say was touched; see touched().

export function useInstances(project: string) {
  return useQuery({
    queryKey: ["instances", project],
    queryFn: ({ signal }) => get<Instance[]>(path(["instances"], { recursion: "2", ...inProject(project) }), signal),
    placeholderData: keepPreviousData,
    // Addresses come without an event.
    refetchInterval: 10_000,
  });
}

export function useInstance(project: string, name: string) {
  return useQuery({
    queryKey: ["instances", project, name],
    queryFn: ({ signal }) => request<Instance>("GET", path(["instances", name], inProject(project)), { signal }),
  });
}

export function useInstanceState(project: string, name: string, every: number) {
  return useQuery({
    queryKey: ["instances", project, name, "state"],
    queryFn: ({ signal }) => get<InstanceState>(path(["instances", name, "state"], inProject(project)), signal),
    refetchInterval: every,
  });
}

export function useImages(project: string) {
  return useQuery({
    queryKey: ["images", project],
    queryFn: ({ signal }) => get<Image[]>(path(["images"], { recursion: "1", ...inProject(project) }), signal),
  });
}

export function useProfiles(project: string) {
  return useQuery({
    queryKey: ["profiles", project],
    queryFn: ({ signal }) => get<Profile[]>(path(["profiles"], { recursion: "1", ...inProject(project) }), signal),
  });
}

export function useNetworks(project: string) {
  return useQuery({
    queryKey: ["networks", project],
    queryFn: ({ signal }) => get<Network[]>(path(["networks"], { recursion: "1", ...inProject(project) }), signal),
  });
}

export function useStoragePools() {
  return useQuery({
    queryKey: ["storage-pools"],
    queryFn: ({ signal }) => get<StoragePool[]>(path(["storage-pools"], { recursion: "1" }), signal),
  });
}

export function useProjects() {
  return useQuery({
    queryKey: ["projects"],
    queryFn: ({ signal }) => get<Project[]>(path(["projects"], { recursion: "1" }), signal),
  });
}

export function useMembers(clustered: boolean) {
  return useQuery({
    queryKey: ["members"],
    queryFn: ({ signal }) => get<Member[]>(path(["cluster", "members"], { recursion: "1" }), signal),
    enabled: clustered,
    refetchInterval: 10_000,
  });
}

export function useResources() {
  return useQuery({
    queryKey: ["resources"],
    queryFn: ({ signal }) => get<Resources>(path(["resources"]), signal),
    refetchInterval: 30_000,
  });
}

export function useWarnings(enabled: boolean) {
  return useQuery({
    enabled,
    queryKey: ["warnings"],
    queryFn: ({ signal }) => get<unknown[]>(path(["warnings"], { recursion: "1" }), signal),
    retry: false,
  });
}

async function operations(signal: AbortSignal, more: Record<string, string> = {}): Promise<Operation[]> {
  const by = await get<Record<string, Operation[]> | null>(path(["operations"], { recursion: "1", "all-projects": "true", ...more }), signal);
  return Object.values(by ?? {}).flat();
}

export function useOperations() {
  return useQuery({ queryKey: ["operations"], queryFn: ({ signal }) => operations(signal) });
}

/** Operations with those that ended long ago. There are many: events tell of what comes after. */
export function useHistory() {
  return useQuery({ queryKey: ["history"], queryFn: ({ signal }) => operations(signal, { history: "true" }), refetchOnMount: "always" });
}

export function useSessions() {
  return useQuery({
    queryKey: ["webui"],
    queryFn: ({ signal }) => get<Session[]>(path(["webui", "sessions"], { recursion: "1" }), signal),
  });
}
